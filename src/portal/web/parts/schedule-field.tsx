/** A schedule: one of the usual ones, or a cron expression of one's own. */
import { SelectField, TextField } from './fields.tsx';

const USUAL = [
  ['never', 'Never'],
  ['0 3 * * 0', 'Sundays at 03:00'],
  ['0 3 * * *', 'Every day at 03:00'],
] as const;
const OWN = 'own';
/** What a schedule of one's own begins with. */
const FIRST_OWN = '30 2 * * 6';

export function ScheduleField({
  label,
  value,
  error,
  onChange,
}: {
  label: string;
  value: string;
  error: string | undefined;
  onChange: (schedule: string) => void;
}) {
  const usual = USUAL.some(([schedule]) => schedule === value);
  return (
    <div>
      <SelectField
        label={label}
        value={usual ? value : OWN}
        error={usual ? error : undefined}
        options={[...USUAL, [OWN, 'Another time']]}
        onChange={(chosen) => onChange(chosen === OWN ? FIRST_OWN : chosen)}
      />
      {usual ? null : (
        <TextField
          label={`${label}: cron expression`}
          hint="Minute, hour, day, month, weekday; in the site's local time"
          value={value}
          error={error}
          onInput={onChange}
        />
      )}
    </div>
  );
}

/** In words, where it is a usual one. */
export function scheduleText(schedule: string): string {
  return USUAL.find(([usual]) => usual === schedule)?.[1] ?? schedule;
}
