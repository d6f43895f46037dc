// A backend that sends as fast as it is let, and knows how much it got rid of: what becomes of a client that stops reading.
import { Backend, type Via } from './backend.ts'

const event = `data: ${'x'.repeat(16_000)}\n\n`

export class Flood {
  readonly backend: Backend

  constructor() {
    this.backend = new Backend('flood', (req, res, backend) => {
      backend.open(req, res)
      const pour = () => {
        while (!res.destroyed && res.write(event));
      }
      res.on('drain', pour)
      pour()
    })
  }

  /** Bytes handed to the network for the clients of a route. */
  sent(via: Via): number {
    let bytes = 0
    for (const stream of this.backend.streams) if (stream.via === via) bytes += stream.req.socket.bytesWritten
    return bytes
  }

  start(): Promise<void> {
    return this.backend.start()
  }

  stop(): Promise<void> {
    return this.backend.stop()
  }
}
