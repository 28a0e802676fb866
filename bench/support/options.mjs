/**
 * A contestant's own arguments: `--name=value` and `--name`.
 */
export function readOptions(args = process.argv.slice(2)) {
  return Object.fromEntries(
    args.map((argument) => {
      const [, name, value] = /^--([^=]+)(?:=(.*))?$/s.exec(argument);
      if (value === undefined) return [name, true];
      return [name, value !== '' && Number.isFinite(Number(value)) ? Number(value) : value];
    }),
  );
}
