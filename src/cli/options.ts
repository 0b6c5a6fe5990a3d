/** Parsers of option values; commander prints their message with the option's name and exits with 2. */
import { InvalidArgumentError } from 'commander';
import { LOG_LEVELS, logLevel } from '../config/checks.ts';

export function integerOption(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < least || number > most) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    }
    return number;
  };
}

export function logLevelOption(value: string): string {
  if (logLevel(value) !== undefined)
    throw new InvalidArgumentError(`It must be one of ${LOG_LEVELS.join(', ')}.`);
  return value;
}

export function emailOption(value: string): string {
  if (!/^[^@\s]+@[^@\s]+$/.test(value)) throw new InvalidArgumentError('It must be an address like a@b.');
  return value;
}

/** The address of a web server: http or https. */
export function webAddressOption(value: string): string {
  if (!/^https?:\/\/[^/]/i.test(value) || !URL.canParse(value))
    throw new InvalidArgumentError('It must be a URL like https://portal.example.');
  return value;
}
