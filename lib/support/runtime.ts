/**
 * What runs the program. Bun and Deno have Node-API, too, but not all that Node.js has beside it.
 */
const { bun, deno } = process.versions as { readonly bun?: string; readonly deno?: string };

/** Whether the event loop is libuv's: what stands for it elsewhere calls nobody back. */
export const hasLibuv: boolean = !bun && !deno;

/** Whether a histogram that is posted to another thread is shared with it. Deno loses the message. */
export const sharesHistograms: boolean = !bun && !deno;

/** Whether there is node:v8's Serializer. Bun has `serialize` alone, which copies what is shared. */
export const hasSerializer: boolean = !bun;
