/**
 * The echo server in packets, whoever takes them.
 */
const multishot = { multishot: true };
const quiet = { quiet: true };

/** Bytes go back from where they lie; a peer that doesn't read is bounded by the port's buffers. */
export function echoStep(packet) {
  switch (packet.type) {
    case 'received': {
      const socket = packet.handle;
      if (packet.failed || packet.bytes === 0) {
        socket.close();
        break;
      }
      packet.sendTo(socket, quiet);
      if (!packet.more) socket.receive(multishot);
      break;
    }
    case 'sent':
      if (packet.failed) packet.handle.close();
      break;
    case 'accepted':
      packet.accepted?.receive(multishot);
      if (!packet.more) packet.handle.accept(multishot);
      break;
  }
}
