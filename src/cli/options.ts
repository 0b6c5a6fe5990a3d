/** Parsers of option values; commander prints their message with the option's name and exits with 2. */
import { InvalidArgumentError } from 'commander';

export function integerOption(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < least || number > most) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    }
    return number;
  };
}
