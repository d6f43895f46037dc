// Lets a recipe be started by itself, `node --import tsx demo/recipes/connect.ts`, as well as from a test.
import { fileURLToPath } from 'node:url'

interface Running {
  readonly url: string
  close(): Promise<void>
}

/** Starts the recipe when its file is the program; Ctrl-C ends it. PORT in the environment sets the port. */
export async function runAlone(
  moduleUrl: string,
  start: (options: { port: number }) => Promise<Running>,
  ...hints: ((url: string) => string)[]
): Promise<void> {
  if (process.argv[1] !== fileURLToPath(moduleUrl)) return
  const running = await start({ port: Number(process.env.PORT ?? 3000) })
  console.log(`Listening on ${running.url}`)
  for (const hint of hints) console.log(hint(running.url))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void running.close().then(() => process.exit(0)))
  }
}
