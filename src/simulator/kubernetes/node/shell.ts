/**
 * What runs inside a simulated container: a shell of a few words (`;` `&&` `||` `|` `>` `>>`, quotes, $NAME) and
 * the programs that people and `kubectl cp` use in containers.
 */
import { ContainerFiles, packTar, resolvePath, unpackTar } from './container-files.ts';

export interface ShellIo {
  readonly stdin: AsyncIterable<Buffer> | undefined;
  readonly stdout: (chunk: Buffer) => void;
  readonly stderr: (chunk: Buffer) => void;
  readonly sleep: (ms: number) => Promise<void>;
  readonly files: ContainerFiles;
  readonly environment: Record<string, string>;
  readonly tty: boolean;
  readonly now: () => number;
  /** What this image brings beyond the usual. */
  readonly programs?: Readonly<Record<string, Program>>;
}

export type Program = (args: readonly string[], io: ShellIo) => Promise<number> | number;

class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

const text = (value: string) => Buffer.from(value);

async function readAll(input: AsyncIterable<Buffer> | undefined): Promise<Buffer> {
  const chunks: Buffer[] = [];
  if (input) for await (const chunk of input) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const PROGRAMS: Record<string, Program> = {
  true: () => 0,
  false: () => 1,
  exit: (args) => {
    throw new Exit(Number(args[0] ?? 0));
  },
  echo(args, io) {
    const bare = args[0] === '-n';
    io.stdout(text(args.slice(bare ? 1 : 0).join(' ') + (bare ? '' : '\n')));
    return 0;
  },
  printf(args, io) {
    let at = 1;
    const format = (args[0] ?? '').replaceAll('\\n', '\n').replaceAll('\\t', '\t');
    io.stdout(text(format.replaceAll(/%[sd]/g, () => args[at++] ?? '')));
    return 0;
  },
  async cat(args, io) {
    if (args.length === 0 || args[0] === '-') {
      // Byte by byte as they come: this is the echo that stream tests lean on.
      if (io.stdin) for await (const chunk of io.stdin) io.stdout(chunk);
      return 0;
    }
    let code = 0;
    for (const path of args) {
      const file = io.files.files.get(resolvePath('/', path));
      if (file) io.stdout(file.content);
      else {
        io.stderr(text(`cat: ${path}: No such file or directory\n`));
        code = 1;
      }
    }
    return code;
  },
  async tee(args, io) {
    const all = await readAll(io.stdin);
    for (const path of args) io.files.write(resolvePath('/', path), all);
    io.stdout(all);
    return 0;
  },
  async wc(args, io) {
    const all = args.includes('-c') || args.includes('-l') ? await readAll(io.stdin) : Buffer.alloc(0);
    io.stdout(text(`${args.includes('-l') ? all.toString('latin1').split('\n').length - 1 : all.length}\n`));
    return 0;
  },
  /** `sed -n[E] /expression/p FILE` and nothing else of it. */
  sed(args, io) {
    const [flags = '', expression = '', path = ''] = args;
    const wanted = /^\/(.*)\/p$/.exec(expression)?.[1];
    if (!/^-nE?$/.test(flags) || wanted === undefined) {
      io.stderr(text(`sed: ${args.join(' ')}: not simulated\n`));
      return 1;
    }
    const file = io.files.files.get(resolvePath('/', path));
    if (!file) {
      io.stderr(text(`sed: ${path}: No such file or directory\n`));
      return 1;
    }
    const lines = file.content.toString('utf8').split('\n');
    io.stdout(
      text(
        lines
          .filter((line) => new RegExp(wanted).test(line))
          .map((line) => `${line}\n`)
          .join(''),
      ),
    );
    return 0;
  },
  ls(args, io) {
    const path = resolvePath('/', args.find((arg) => !arg.startsWith('-')) ?? '/');
    if (io.files.files.has(path)) io.stdout(text(`${path}\n`));
    else if (io.files.isDirectory(path))
      io.stdout(
        text(
          io.files
            .children(path)
            .map((name) => `${name}\n`)
            .join(''),
        ),
      );
    else {
      io.stderr(text(`ls: ${path}: No such file or directory\n`));
      return 2;
    }
    return 0;
  },
  mkdir(args, io) {
    for (const path of args.filter((arg) => !arg.startsWith('-')))
      io.files.makeDirectory(resolvePath('/', path));
    return 0;
  },
  rm(args, io) {
    for (const path of args.filter((arg) => !arg.startsWith('-')))
      for (const file of io.files.below(resolvePath('/', path))) io.files.files.delete(file);
    return 0;
  },
  test(args, io) {
    const path = resolvePath('/', args[1] ?? '');
    if (args[0] === '-d') return io.files.isDirectory(path) ? 0 : 1;
    if (args[0] === '-f') return io.files.files.has(path) ? 0 : 1;
    if (args[0] === '-e') return io.files.files.has(path) || io.files.isDirectory(path) ? 0 : 1;
    return args.length > 0 ? 0 : 1;
  },
  async sleep(args, io) {
    await io.sleep(
      args[0] === 'infinity' ? 10 * 365 * 24 * 3_600_000 : Number.parseFloat(args[0] ?? '0') * 1000,
    );
    return 0;
  },
  hostname(_args, io) {
    io.stdout(text(`${io.environment['HOSTNAME'] ?? ''}\n`));
    return 0;
  },
  whoami(_args, io) {
    io.stdout(text('root\n'));
    return 0;
  },
  pwd(_args, io) {
    io.stdout(text('/\n'));
    return 0;
  },
  date(_args, io) {
    io.stdout(text(`${new Date(io.now()).toISOString()}\n`));
    return 0;
  },
  env(_args, io) {
    io.stdout(
      text(
        Object.entries(io.environment)
          .map(([name, value]) => `${name}=${value}\n`)
          .join(''),
      ),
    );
    return 0;
  },
  async tar(args, io) {
    const flags = (args[0] ?? '').replace(/^-/, '');
    const rest = args.slice(1);
    const at = rest.indexOf('-C');
    const directory = at === -1 ? '/' : (rest[at + 1] ?? '/');
    const names = rest.filter(
      (arg, index) => arg !== '-C' && index !== at + 1 && arg !== '-' && !arg.startsWith('--') && arg !== 'f',
    );
    if (flags.includes('c')) {
      const missing = names.find(
        (name) =>
          !io.files.isDirectory(resolvePath(directory, name)) &&
          !io.files.files.has(resolvePath(directory, name)),
      );
      if (missing !== undefined) {
        io.stderr(
          text(
            `tar: ${missing}: Cannot stat: No such file or directory\ntar: Exiting with failure status due to previous errors\n`,
          ),
        );
        return 2;
      }
      io.stdout(packTar(io.files, names, directory));
      return 0;
    }
    unpackTar(await readAll(io.stdin), io.files, directory);
    return 0;
  },
  sh: shell,
  bash: shell,
};

async function shell(args: readonly string[], io: ShellIo): Promise<number> {
  const at = args.findIndex((arg) => /^-[a-z]*c$/.test(arg));
  if (at !== -1) return runScript(args[at + 1] ?? '', io);
  // An interactive or piped shell: line by line from stdin.
  let rest = '';
  let code = 0;
  const prompt = () => {
    if (io.tty) io.stdout(text('# '));
  };
  prompt();
  try {
    if (io.stdin)
      for await (const chunk of io.stdin) {
        if (io.tty) io.stdout(text(chunk.toString('utf8').replaceAll('\r', '\r\n')));
        rest += chunk.toString('utf8').replaceAll('\r', '\n');
        for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
          const line = rest.slice(0, end);
          rest = rest.slice(end + 1);
          code = await runLine(line, { ...io, stdin: undefined });
          prompt();
        }
      }
    if (rest.trim() !== '') code = await runLine(rest, { ...io, stdin: undefined });
  } catch (error) {
    if (error instanceof Exit) return error.code;
    throw error;
  }
  return code;
}

async function runScript(script: string, io: ShellIo): Promise<number> {
  try {
    return await runLine(script, io);
  } catch (error) {
    if (error instanceof Exit) return error.code;
    throw error;
  }
}

type Token = { readonly word: string } | { readonly operator: string };

function tokenize(line: string, environment: Record<string, string>): Token[] {
  const tokens: Token[] = [];
  let word: string | undefined;
  const push = () => {
    if (word !== undefined) tokens.push({ word });
    word = undefined;
  };
  for (let at = 0; at < line.length; at += 1) {
    const char = line[at] ?? '';
    if (char === "'" || char === '"') {
      const end = line.indexOf(char, at + 1);
      const inner = line.slice(at + 1, end === -1 ? line.length : end);
      word = (word ?? '') + (char === '"' ? expand(inner, environment) : inner);
      at = end === -1 ? line.length : end;
    } else if (char === '\\' && at + 1 < line.length) {
      word = (word ?? '') + (line[at + 1] ?? '');
      at += 1;
    } else if (/\s/.test(char)) {
      push();
      if (char === '\n') tokens.push({ operator: ';' });
    } else {
      const operator = ['&&', '||', '>>', '2>&1', ';', '|', '>', '<'].find((candidate) =>
        line.startsWith(candidate, at),
      );
      if (operator) {
        push();
        tokens.push({ operator });
        at += operator.length - 1;
      } else {
        const variable = /^\$\{?(\w+)\}?/.exec(line.slice(at));
        if (variable) {
          word = (word ?? '') + (environment[variable[1] ?? ''] ?? '');
          at += variable[0].length - 1;
        } else word = (word ?? '') + char;
      }
    }
  }
  push();
  return tokens;
}

const expand = (value: string, environment: Record<string, string>) =>
  value.replaceAll(/\$\{?(\w+)\}?/g, (_all, name: string) => environment[name] ?? '');

/** Loops are run as one `while true; do ...; done`, which is what log-writing containers do. */
async function runLine(line: string, io: ShellIo): Promise<number> {
  const loop = /^\s*while\s+(?:true|:)\s*;\s*do\s+([\s\S]*?);?\s*done\s*$/.exec(line);
  if (loop) {
    for (;;) {
      await runLine(loop[1] ?? '', io);
      await io.sleep(1);
    }
  }
  const tokens = tokenize(line, io.environment);
  let code = 0;
  let skip = false;
  for (let at = 0; at < tokens.length; ) {
    let end = at;
    while (end < tokens.length && !isOperator(tokens[end], ['&&', '||', ';'])) end += 1;
    if (!skip && end > at) code = await runPipeline(tokens.slice(at, end), io);
    const next = tokens[end];
    const operator = next && 'operator' in next ? next.operator : ';';
    skip = operator === '&&' ? code !== 0 : operator === '||' ? code === 0 : false;
    at = end + 1;
  }
  return code;
}

const isOperator = (token: Token | undefined, names: readonly string[]) =>
  token !== undefined && 'operator' in token && names.includes(token.operator);

async function runPipeline(tokens: readonly Token[], io: ShellIo): Promise<number> {
  const stages: Token[][] = [[]];
  for (const token of tokens) {
    if (isOperator(token, ['|'])) stages.push([]);
    else stages.at(-1)?.push(token);
  }
  let input = io.stdin;
  let code = 0;
  for (const [index, stage] of stages.entries()) {
    const words: string[] = [];
    let target: { path: string; append: boolean } | undefined;
    let merged = false;
    for (let at = 0; at < stage.length; at += 1) {
      const token = stage[at];
      if (!token) continue;
      if ('word' in token) words.push(token.word);
      else if (token.operator === '2>&1') merged = true;
      else {
        const next = stage[at + 1];
        if (next && 'word' in next) {
          if (token.operator === '<') {
            const file = io.files.files.get(resolvePath('/', next.word));
            input = once(file?.content ?? Buffer.alloc(0));
          } else target = { path: next.word, append: token.operator === '>>' };
        }
        at += 1;
      }
    }
    const last = index === stages.length - 1;
    const collected: Buffer[] = [];
    const collect = target !== undefined || !last;
    const stdout = collect ? (chunk: Buffer) => void collected.push(chunk) : io.stdout;
    code = await runProgram(words, { ...io, stdin: input, stdout, stderr: merged ? stdout : io.stderr });
    const output = Buffer.concat(collected);
    if (target && !target.path.startsWith('/dev/') && !target.path.startsWith('/proc/')) {
      const path = resolvePath('/', target.path);
      const before = target.append ? (io.files.files.get(path)?.content ?? Buffer.alloc(0)) : Buffer.alloc(0);
      io.files.write(path, Buffer.concat([before, output]));
    }
    input = once(target ? Buffer.alloc(0) : output);
  }
  return code;
}

async function* once(chunk: Buffer): AsyncGenerator<Buffer> {
  if (chunk.length > 0) yield chunk;
}

/** Exit code of one program; 127 when there is none of that name. */
export async function runProgram(words: readonly string[], io: ShellIo): Promise<number> {
  const [name = '', ...args] = words;
  const assignment = /^(\w+)=(.*)$/.exec(name);
  if (assignment && args.length === 0) {
    io.environment[assignment[1] ?? ''] = assignment[2] ?? '';
    return 0;
  }
  const base = name.split('/').at(-1) ?? '';
  const program = io.programs?.[base] ?? PROGRAMS[base];
  if (!program || name === '') {
    io.stderr(text(`sh: ${name}: not found\n`));
    return 127;
  }
  return program(args, io);
}

/** As `exec` does it: the program itself, without a shell around it. Throws an Error when it does not exist. */
export async function execProgram(words: readonly string[], io: ShellIo): Promise<number> {
  const name = words[0]?.split('/').at(-1) ?? '';
  if (!PROGRAMS[name])
    throw new Error(
      `error executing command in container: failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: exec: "${words[0]}": executable file not found in $PATH`,
    );
  try {
    return await runProgram(words, io);
  } catch (error) {
    if (error instanceof Exit) return error.code;
    throw error;
  }
}
