// One owner at its worst, as a child of the benchmark: attacks.ts <url> <key> <attack>, until killed.
import { type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { sleep } from '../src/waiting.ts'

const BODY_BYTES = 16 * 1024 * 1024
const [url, key, name] = process.argv.slice(2)
const { hostname, port } = new URL(url)

function head(path: string, headers: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries({ host: 'x', authorization: `Bearer ${key}`, ...headers })
  const typed = [...lines, ['content-type', 'application/json']]
  return `POST ${path} HTTP/1.1\r\n${typed.map(([field, value]) => `${field}: ${value}\r\n`).join('')}\r\n`
}

function post(path: string, body: Buffer, headers: Readonly<Record<string, string>> = {}): Promise<string> {
  const sent = {
    authorization: `Bearer ${key}`,
    'content-type': 'application/json',
    'content-length': body.length,
    ...headers,
  }
  return new Promise((resolve) => {
    const asked = request({ hostname, port, path, method: 'POST', headers: sent })
    asked.on('error', () => resolve(''))
    asked.on('response', (answer: IncomingMessage) => {
      let text = ''
      answer.on('data', (piece: Buffer) => {
        if (text.length < 1e6) text += piece.toString('latin1')
      })
      answer.on('error', () => resolve('')).on('end', () => resolve(text))
    })
    asked.end(body)
  })
}

/** The same request on `connections` connections, again and again. */
async function repeat(connections: number, send: () => Promise<unknown>): Promise<void> {
  const forever = async (): Promise<never> => {
    for (;;) {
      await send()
      await sleep(1)
    }
  }
  await Promise.all(Array.from({ length: connections }, forever))
}

/** Keeps `count` connections open, opened anew when cut; `use` writes and perhaps reads. */
async function keep(count: number, use: (socket: Socket) => void): Promise<void> {
  const open = (): void => {
    const socket = connect(Number(port), hostname, () => use(socket))
    socket.on('error', () => undefined).on('close', () => setTimeout(open, 100))
  }
  for (let i = 0; i < count; i++) open()
  await sleep(2 ** 30)
}

async function longToken(): Promise<string> {
  const body = Buffer.from(JSON.stringify({ values: ['x'.repeat(32 * 1024)] }))
  return JSON.parse(await post('/tokenize', body)).tokens[0]
}

function padded(text: string, fill: string, end: string): Buffer {
  const room = BODY_BYTES - text.length - end.length
  return Buffer.from(text + fill.repeat(Math.floor(room / fill.length)) + end)
}

const ATTACKS: Readonly<Record<string, () => Promise<void>>> = {
  'gzip of arrays to /secrets': async () => {
    const body = gzipSync(padded('{"secrets":[', '[[[[[[]]]]]],', '1]}'))
    await repeat(12, () => post('/secrets', body, { 'content-encoding': 'gzip' }))
  },
  'answers never read': async () => {
    const token = await longToken()
    const body = JSON.stringify({ tokens: Array(1900).fill(token) })
    await keep(24, (socket) => {
      socket.pause().write(head('/detokenize', { 'content-length': body.length }) + body)
    })
  },
  'bodies one byte short': async () => {
    const body = Buffer.alloc(BODY_BYTES - 1, 0x20)
    await keep(17, (socket) => {
      socket.write(head('/tokenize', { 'content-length': BODY_BYTES }))
      socket.write(body)
    })
  },
  'tiny gzip': async () => {
    const body = gzipSync('{"values":["tiny"]}')
    await repeat(32, () => post('/tokenize', body, { 'content-encoding': 'gzip' }))
  },
  'a fault at the end': async () => {
    const values = Array.from({ length: 99_998 }, (_, i) => `"${String(i).padStart(160, '0')}"`)
    const body = Buffer.from(`{"values":[${values.join(',')},{}]}`)
    await repeat(8, () => post('/tokenize', body))
  },
  'empty records': async () => {
    const body = padded('{"records":[', '{},', '{}]}')
    await repeat(8, () => post('/tokenize', body))
  },
  'slow writers': () =>
    keep(200, (socket) => {
      socket.write(head('/tokenize', { 'transfer-encoding': 'chunked' }))
      const timer = setInterval(() => socket.write('1\r\n \r\n'), 10)
      socket.resume().on('close', () => clearInterval(timer))
    }),
  'slow readers': async () => {
    const token = await longToken()
    const body = JSON.stringify({ tokens: Array(1000).fill(token) })
    await keep(24, (socket) => {
      socket.write(head('/detokenize', { 'content-length': body.length }) + body)
      socket.on('data', () => {
        socket.pause()
        setTimeout(() => socket.resume(), 20)
      })
    })
  },
  '1,000 connections': () =>
    keep(1000, (socket) => {
      socket.write(`${head('/tokenize', { 'content-length': 1000, 'content-encoding': 'gzip' })}x`)
    }),
}

const attack = ATTACKS[name]
if (!attack) throw new Error(`there is no attack ${name}`)
else await attack()
