/**
 * The rules of `serve` where connections come as streams over a port: as on Windows, where the other
 * file has them so by itself.
 */
export {};

process.env['COMPLETION_PORT_SERVE'] = 'port';
await import('./serve.test.js');
