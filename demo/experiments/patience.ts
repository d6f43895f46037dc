// How long the experiments wait for what may never come. The page tells these times in its verdicts.

/** For the first event behind a compressor. */
export const firstEventMs = 3000

/** For the first token of a chat whose request may hang. */
export const firstTokenMs = 3000

/** What the load balancer of the experiments takes for a dead connection. */
export const idleLimitMs = 4000

/** From one look at a state to the next, by whoever polls it. */
export const pollMs = 1000
