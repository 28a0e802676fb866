/**
 * Clients of the TCP servers: `load` and `hold` of bench/native.
 */
import { native, run, script, start } from './children.mjs';
import { CpuHistory } from './processes.mjs';

const SECONDS_BEYOND = 20;
const MiB = 1 << 20;

function told(server) {
  return server.answers ? server.ask('stats') : undefined;
}

/** Server programs end by themselves some time, should this one be killed. */
export function nativeServer(name, { seconds }) {
  return native(name, { seconds: seconds + 60 });
}

/** Starts the server, lets `visit` measure it, and ends it, whatever happens. */
async function withServer(program, role, visit) {
  const server = await start(program, role);
  try {
    const result = await visit(server);
    return { result, report: await server.stop() };
  } catch (error) {
    server.kill();
    throw error;
  }
}

/**
 * Sends messages to an echo server. The server's CPU time is that of the window the messages are
 * counted in: neither the warm-up nor the making of connections is in it.
 */
export async function measureEcho(program, { connections, size = 64, rate }, times) {
  const { warmUp, seconds } = times;
  const { result, report } = await withServer(program, 'server', async (server) => {
    const before = await told(server);
    const history = new CpuHistory(server.pid);
    const client = native('load', {
      port: server.port,
      ...{ connections, size, rate, seconds, warmup: warmUp },
    });
    const sent = await run(client, {
      role: 'client',
      seconds: warmUp + seconds + SECONDS_BEYOND,
      onOutput: () => history.stop(),
    });
    if (sent.errors > 0) throw new Error(`${sent.errors} messages did not come back as sent`);
    const after = await told(server);
    const calls = before && (after.systemCalls - before.systemCalls) / sent.all_messages;
    return { ...sent, cpu: history.last(seconds), calls };
  });
  return {
    rate: result.messages_per_second,
    ...latencies(result),
    cpu: result.cpu / result.messages,
    systemCalls: result.calls ?? report?.system_calls_per_message,
  };
}

/** Connects, sends a byte, and resets when it came back, again and again. */
export async function measureAccepts(program, { connections }, times) {
  const { warmUp, seconds } = times;
  const { result } = await withServer(program, 'server', async (server) => {
    const history = new CpuHistory(server.pid);
    const client = native('load', {
      port: server.port,
      accepts: true,
      ...{ connections, seconds, warmup: warmUp },
    });
    const accepted = await run(client, {
      role: 'client',
      seconds: warmUp + seconds + SECONDS_BEYOND,
      onOutput: () => history.stop(),
    });
    return { ...accepted, cpu: history.last(seconds) };
  });
  return {
    rate: result.accepts_per_second,
    ...latencies(result),
    cpu: result.cpu / result.accepts,
  };
}

/**
 * The same loads from several clients at once, on CPUs of their own, on a server that may have
 * several, too; `connections`: of all clients together. The p99 is that of the client with the worst.
 */
export async function measureShared(program, { connections, accepts }, cpus, times) {
  const { warmUp, seconds } = times;
  const each = Math.ceil(connections / cpus.clients.length);
  const visit = async (server) => {
    const history = new CpuHistory(...server.pids);
    const options = { accepts, connections: each, seconds, warmup: warmUp };
    const sent = await Promise.all(
      cpus.clients.map((role) =>
        run(native('load', { port: server.port, ...options }), {
          role,
          seconds: warmUp + seconds + SECONDS_BEYOND,
          onOutput: () => history.stop(),
        }),
      ),
    );
    return { sent, cpu: history.last(seconds) };
  };
  const { result } = await withServer(program, cpus.server, visit);
  const sum = (name) => result.sent.reduce((all, one) => all + one[name], 0);
  if (sum('errors') > 0) throw new Error(`${sum('errors')} messages did not come back as sent`);
  return {
    rate: sum(accepts ? 'accepts_per_second' : 'messages_per_second'),
    p99: Math.max(...result.sent.map((one) => latencies(one).p99)),
    cpu: result.cpu / sum(accepts ? 'accepts' : 'messages'),
  };
}

/** Has a server send a file of `size` bytes, again and again. */
export async function measureFiles(program, { size, connections }, times) {
  const { warmUp, seconds } = times;
  const { result } = await withServer(program, 'server', async (server) => {
    const before = await told(server);
    const history = new CpuHistory(server.pid);
    const options = { port: server.port, size, connections, warmUp, seconds };
    const received = await run(script('files-client.mjs', options), {
      role: 'client',
      seconds: warmUp + seconds + SECONDS_BEYOND,
      onOutput: () => history.stop(),
    });
    const after = await told(server);
    const calls = after.systemCalls - before.systemCalls;
    return { ...received, cpu: history.last(received.seconds), calls };
  });
  return {
    throughput: result.bytes / result.seconds,
    cpuPerMiB: result.cpu / (result.bytes / MiB),
    systemCalls: result.calls / (result.all / MiB),
  };
}

/** Questions to an echo or http server, each connection with one under way. */
export async function measureRequests(program, load, { warmUp, seconds }) {
  const { result } = await withServer(program, 'server', async (server) => {
    const history = new CpuHistory(...server.pids);
    const options = { port: server.port, ...load, warmUp, seconds };
    const sent = await run(script('node-client.mjs', options), {
      role: 'client',
      seconds: warmUp + seconds + SECONDS_BEYOND,
      onOutput: () => history.stop(),
    });
    return { ...sent, cpu: history.last(sent.seconds) };
  });
  return { rate: result.messages / result.seconds, cpu: result.cpu / result.messages };
}

/** Lines that are sent ahead of their answers, and the server's CPU time for each. */
export async function measureIngest(program, load, { warmUp, seconds }) {
  const { result } = await withServer(program, 'server', async (server) => {
    const history = new CpuHistory(server.pid);
    const sent = await run(
      script('ingest-client.mjs', { port: server.port, ...load, warmUp, seconds }),
      {
        role: 'client',
        seconds: warmUp + seconds + SECONDS_BEYOND,
        onOutput: () => history.stop(),
      },
    );
    const { lines, ...times } = sent;
    return { ...times, cpu: history.last(seconds) / lines };
  });
  return result;
}

/** Members of rooms, of which one in each speaks. */
export async function measureChat(program, load, { warmUp, seconds }) {
  const { result } = await withServer(program, 'server', async (server) => {
    const history = new CpuHistory(server.pid);
    const heard = await run(
      script('chat-client.mjs', { port: server.port, ...load, warmUp, seconds }),
      {
        role: 'client',
        seconds: warmUp + seconds + 2 * SECONDS_BEYOND,
        onOutput: () => history.stop(),
      },
    );
    const { deliveries, ...times } = heard;
    return { ...times, cpu: history.last(seconds) / deliveries };
  });
  return result;
}

/** Seconds that make a p99 one of some thousand requests. */
const STALL_SECONDS = 2;

/** Light clients, with or without a heavy one. Neither they nor the server are bound to CPUs. */
export async function measureStall(program, load, { warmUp, seconds }) {
  const times = { warmUp, seconds: seconds * STALL_SECONDS };
  const visit = ({ port }) =>
    run(script('stall-client.mjs', { port, ...load, ...times }), {
      seconds: times.warmUp + times.seconds + SECONDS_BEYOND,
    });
  return (await withServer(program, 'anywhere', visit)).result;
}

/** A row of a benchmark of idle connections. */
export const rowOf = (connections) => ({
  name: `${connections.toLocaleString('en')} connections`,
  connections,
});

/** What connections cost that have sent one byte and are idle since. */
export function measureIdle(program, { connections }) {
  return measureHeld(program, connections, ({ port }, count) =>
    native('hold', { port, connections: count, echo: true }),
  );
}

/** The same of an http server, which has answered once on each. */
export function measureIdleHttp(program, { connections }) {
  return measureHeld(program, connections, ({ port }, count) =>
    script('http-hold.mjs', { port, connections: count }),
  );
}

async function measureHeld(program, connections, client) {
  const { result } = await withServer(program, 'server', async (server) => {
    const one = await holdConnections(client(server, 1), 1);
    await one.stop();
    const { resident: before } = await server.ask('resident');
    const all = await holdConnections(client(server, connections), connections);
    const { resident: after } = await server.ask('resident');
    await all.stop();
    return { resident: (after - before) / connections };
  });
  return result;
}

async function holdConnections(program, connections) {
  const client = await start(program);
  if (client.ready.connections === connections) return client;
  client.kill();
  throw new Error(`${client.ready.connections} of ${connections} connections`);
}

function latencies({ p50_us: p50, p99_us: p99, p99_9_us: p999 }) {
  return { p50, p99, p999 };
}
