// The probe: asks the ledger for its health once a second, for /ready, /status and metrics, and lets
// warnings.ts look at the node.
import type { TokenCalls } from '../http/token-calls.ts'
import type { RunningNode } from './running-node.ts'
import { Warnings } from './warnings.ts'

const PROBE_MS = 1000

export class Probe {
  readonly #node: RunningNode
  readonly #warnings: Warnings
  readonly #timer: NodeJS.Timeout
  #leader: string | undefined
  #running: Promise<void> | undefined

  constructor(node: RunningNode, calls: TokenCalls) {
    this.#node = node
    this.#warnings = new Warnings(node, calls)
    this.#timer = setInterval(() => void this.run(), PROBE_MS)
  }

  /** Probes now, or joins the probe in progress. Never throws. */
  run(): Promise<void> {
    this.#running ??= this.#probe().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#running
  }

  async #probe(): Promise<void> {
    const { ledger, stop, events } = this.#node
    this.#warnings.unmatchedFields()
    this.#warnings.endingCertificates()
    this.#warnings.wrongClock()
    const health = await ledger.health()
    if (stop.signal.aborted) return
    this.#node.health = health
    this.#warnings.filling(health)
    if (health.leader === undefined || health.leader === this.#leader) return
    const from = this.#leader === undefined ? {} : { from: this.#leader }
    events.emit('ledger.leader', { ...from, to: health.leader })
    this.#leader = health.leader
  }
}
