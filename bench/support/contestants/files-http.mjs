/**
 * Serves one file over http, whatever is asked for: the example's stage in one thread, node:http, or
 * nginx with one process, which keeps the file open as well.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  createReadStream,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Pipeline } from 'completion-port/stages';
import { readOptions } from '../options.mjs';
import { serve } from '../server.mjs';

const { kind, file, driver } = readOptions();

async function serveOurs() {
  const pipeline = new Pipeline(
    {
      files: {
        stage: new URL('../../../examples/programs/stages/files.stage.mjs', import.meta.url),
        data: { root: realpathSync(path.dirname(file)) },
        threads: 1,
      },
    },
    { driver },
  );
  const place = { host: '127.0.0.1', port: 0, noDelay: true, backlog: 4096 };
  serve((await pipeline.listen('files', place)).port);
}

async function serveNode() {
  const server = http.createServer((_request, response) => {
    response.setHeader('content-length', statSync(file).size);
    createReadStream(file).pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  serve(server.address().port);
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

const settings = (folder, port) => `
daemon off;
master_process off;
error_log ${folder}/errors;
pid ${folder}/pid;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  open_file_cache max=1000;
  open_file_cache_valid 1s;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server { listen 127.0.0.1:${port} backlog=4096; root ${path.dirname(file)}; }
}
`;

async function serveNginx() {
  if (spawnSync('nginx', ['-v']).error !== undefined) {
    console.log(JSON.stringify({ notMeasured: 'nginx is not installed' }));
    return;
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), 'completion-port-nginx-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const port = await freePort();
  writeFileSync(path.join(folder, 'conf'), settings(folder, port));
  // It ends with this process, however that ends.
  const nginx = ['nginx', '-p', folder, '-c', path.join(folder, 'conf')];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...nginx], { stdio: 'ignore' });
  child.once('exit', (code) => process.exit(code ?? 1));
  while (!(await answers(port)));
  serve(port, undefined, [child.pid]);
}

async function answers(port) {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

await { ours: serveOurs, node: serveNode, nginx: serveNginx }[kind]();
