/**
 * Holds the classes to the types that lib/api.ts promises. Nothing of it is there at run time.
 */
import type * as api from './api';
import type { File } from './handles/file';
import type { TcpListener } from './handles/listener';
import type { Operation } from './await/operation';
import type { Packet } from './packets/packet';
import type { TcpSocket } from './handles/socket';
import type { Timer } from './handles/timer';

/** `Class` has whatever `Promised` says. */
type Implements<Class extends Promised, Promised> = [Class, Promised];

export type Checked = [
  Implements<Operation<number>, api.Operation<number>>,
  Implements<File<'await'>, api.FileHandle>,
  Implements<File<'packet'>, api.KeyedFile>,
  Implements<TcpSocket<'await'>, api.SocketHandle>,
  Implements<TcpSocket<'packet'>, api.KeyedSocket>,
  Implements<TcpListener<'await'>, api.ListenerHandle>,
  Implements<TcpListener<'packet'>, api.KeyedListener>,
  Implements<Timer<'await'>, api.TimerHandle>,
  Implements<Timer<'packet'>, api.KeyedTimer>,
  Implements<
    Omit<Packet, 'type' | 'handle' | 'value' | 'accepted' | 'data'>,
    Omit<api.ReceivedPacket, 'type' | 'handle' | 'value' | 'accepted' | 'data'>
  >,
];
