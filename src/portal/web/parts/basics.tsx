/** Small parts that every page uses. */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { fullTime, relative } from '../format.ts';
import { now } from '../state.ts';
import { Icon, type IconName } from './icons.tsx';

export function When({ at }: { at: string }) {
  return (
    <time dateTime={at} title={fullTime(at)}>
      {relative(at, now.value)}
    </time>
  );
}

export function PageHead({
  title,
  lead,
  children,
}: {
  title: string;
  lead?: ComponentChildren;
  children?: ComponentChildren;
}) {
  useEffect(() => {
    document.title = `${title} · PCG`;
  }, [title]);
  return (
    <header class="page-head">
      <div>
        <h1 tabIndex={-1}>{title}</h1>
        {lead ? <p class="lead">{lead}</p> : null}
      </div>
      {children ? <div class="actions">{children}</div> : null}
    </header>
  );
}

/** A failure with cause, evidence and next step. */
export function ProblemBox({ problem, title }: { problem: ProblemDetails; title?: string }) {
  const evidence = problem.details;
  return (
    <div class="notice bad" role="alert">
      <Icon name="bad" />
      <div>
        <strong>{title ?? problem.message}</strong>
        {title ? <p>{problem.message}</p> : null}
        <p>{problem.fix}</p>
        <p class="fine">
          <code>{problem.code}</code>
          {problem.field ? (
            <>
              {' '}
              in <code>{problem.field}</code>
            </>
          ) : null}
        </p>
        {evidence && Object.keys(evidence).length > 0 ? (
          <details>
            <summary>Evidence</summary>
            <pre>{JSON.stringify(evidence, null, 2)}</pre>
          </details>
        ) : null}
      </div>
    </div>
  );
}

export function Notice({
  tone,
  icon,
  children,
}: {
  tone: 'info' | 'warn' | 'good';
  icon: IconName;
  children: ComponentChildren;
}) {
  return (
    <div class={`notice ${tone}`} role="status">
      <Icon name={icon} />
      <div>{children}</div>
    </div>
  );
}

export function Empty({
  icon,
  title,
  children,
}: {
  icon: IconName;
  title: string;
  children?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <Icon name={icon} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading() {
  return (
    <div class="loading" role="status">
      <Icon name="run" spin /> Loading
    </div>
  );
}

export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }) {
  const copied = useSignal(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without HTTPS there is no clipboard; select-and-copy still works.
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    copied.value = true;
    setTimeout(() => {
      copied.value = false;
    }, 2000);
  };
  return (
    <button type="button" class="button small" onClick={copy}>
      <Icon name={copied.value ? 'ok' : 'copy'} />
      <span aria-live="polite">{copied.value ? 'Copied' : label}</span>
    </button>
  );
}

export function Command({ text, label }: { text: string; label: string }) {
  return (
    <div class="command">
      <pre aria-label={label} tabIndex={0}>
        {text}
      </pre>
      <CopyButton text={text} />
    </div>
  );
}

/** A modal dialog by the platform: focus stays inside, Escape closes. */
export function Dialog({
  title,
  onClose,
  wide = false,
  children,
}: {
  title: string;
  onClose: () => void;
  /** For forms with several columns. */
  wide?: boolean;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? 'wide' : ''}
      aria-labelledby={id}
      onClose={(event) => {
        // A dialog inside this one closes itself, not this one.
        if (event.target === dialog.current) onClose();
      }}
    >
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

export function Row({ term, children }: { term: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{children}</dd>
    </div>
  );
}
