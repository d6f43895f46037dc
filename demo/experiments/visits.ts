// Comes back as the same user several times and notes which backend it met and whether that one knew the user.
import { get } from 'node:http'

export interface Visit {
  readonly backend: string
  /** How often this backend has seen the user, in its own memory. */
  readonly visit: number
}

export async function visit(url: string, cookie: string, times: number): Promise<Visit[]> {
  const visits: Visit[] = []
  for (let i = 0; i < times; i++) visits.push(await visitOnce(url, cookie))
  return visits
}

function visitOnce(url: string, cookie: string): Promise<Visit> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, headers: { cookie } }, (res) => {
      res.setEncoding('utf8').once('data', (text: string) => {
        const data = /^data: (.*)$/m.exec(text)?.[1]
        if (data) resolve(JSON.parse(data))
        else reject(new Error(`no welcome from ${url}: status ${res.statusCode}`))
        request.destroy()
      })
      res.on('error', () => {})
    })
    request.on('error', reject)
  })
}
