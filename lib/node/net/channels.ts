/** The channels of node:diagnostics_channel on which node:net tells of its sockets and servers. */
import diagnostics = require('node:diagnostics_channel');

export const clientSocket = diagnostics.channel('net.client.socket');
export const serverSocket = diagnostics.channel('net.server.socket');
export const serverListen = diagnostics.tracingChannel('net.server.listen');
