/**
 * Holds the classes to the types that lib/stage/api.ts promises. Nothing of it is there at run time.
 */
import type * as api from './api';
import type { Connection } from './run/connection';
import type { StageDocument } from './run/documents';
import type { InspectorServer } from './inspector/inspector';
import type { StageListener } from './pool/listener';
import type { Pipeline } from './pool/pipeline';

/** `Class` has whatever `Promised` says. */
type Implements<Class extends Promised, Promised> = [Class, Promised];

type Fields = { readonly count: 'u32' };

export type Checked = [
  Implements<Connection<Fields, 'a' | 'b', Date>, api.Connection<Fields, 'a' | 'b', Date>>,
  Implements<StageDocument, api.StageDocument>,
  Implements<InspectorServer, api.Inspector>,
  Implements<StageListener, api.StageListener>,
  Implements<Pipeline, api.Pipeline>,
];
