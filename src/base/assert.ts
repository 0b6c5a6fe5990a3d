/** Compile-time exhaustiveness for unions, and the run-time alarm if a lie got past a boundary. */

/** Never returns. `value` is printed so that the unknown member is named in the error. */
export function assertNever(value: never, what = 'value'): never {
  throw new Error(`unexpected ${what}: ${JSON.stringify(value)}`);
}
