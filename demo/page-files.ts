// Serves the page. Its scripts are TypeScript and are put together when the demo starts, the chart library among them,
// so that whoever tries the demo has nothing to build.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'
import { type RequestHandler, Router } from 'express'

const folder = fileURLToPath(new URL('page/', import.meta.url))

export function pageFiles(): RequestHandler {
  const { outputFiles } = buildSync({
    entryPoints: [`${folder}main.ts`],
    outdir: folder,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    // The package promises to have no side effects; the page is nothing but side effects.
    ignoreAnnotations: true,
  })
  const router = Router()
  const serve = (path: string, type: string, body: string) => {
    router.get(path, (_req, res) => void res.set('cache-control', 'no-cache').type(type).send(body))
  }
  serve('/', 'html', readFileSync(`${folder}index.html`, 'utf8'))
  for (const { path, text } of outputFiles)
    serve(path.endsWith('.css') ? '/page.css' : '/page.js', extension(path), text)
  router.get('/favicon.ico', (_req, res) => void res.status(204).end())
  return router
}

function extension(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1)
}
