// The laws of docs/design.md, judged over a history: what clients asked, when, and what they were answered.
import assert from 'node:assert/strict'

export type Issue = {
  owner: string
  value: string
  epoch: number
  token: string
  asked: number
  answered: number
}
export type Rotation = { owner: string; epoch: number; asked: number; answered: number }

export class History {
  readonly issues: Issue[] = []
  readonly rotations: Rotation[] = []
  /** Tokens whose value is known from an acknowledged answer. */
  readonly #byToken = new Map<string, Issue>()
  readonly #byValue = new Map<string, Issue>()

  /** Law 2: one value has one token, and one token one value, per owner and epoch. */
  issued(issue: Issue): void {
    this.issues.push(issue)
    const name = JSON.stringify([issue.owner, issue.epoch, issue.value])
    const first = this.#byValue.get(name)
    if (first) assert.equal(issue.token, first.token, `law 2: ${name} has two tokens`)
    else this.#byValue.set(name, issue)
    const other = this.#byToken.get(issue.token)
    if (other)
      assert.deepEqual(
        [other.owner, other.value],
        [issue.owner, issue.value],
        'law 2: one token has two values',
      )
    else this.#byToken.set(issue.token, issue)
    assert.match(
      issue.token,
      new RegExp(`^tok_${issue.epoch}_`),
      'law 3: a token of another epoch in the answer',
    )
  }

  /** Laws 1 and 6: an answer about a token that was acknowledged before the question. */
  resolved(token: string, owner: string, value: string | undefined, asked: number): void {
    const issue = this.#byToken.get(token)
    assert.ok(issue, 'only issued tokens are asked for')
    if (issue.owner !== owner) assert.equal(value, undefined, 'law 9: another owner got a value')
    else if (issue.answered <= asked) assert.equal(value, issue.value, 'laws 1 and 6: an acknowledged token')
  }

  get tokens(): Issue[] {
    return [...this.#byToken.values()]
  }

  /** Law 3: the epoch was active at some instant between question and answer. */
  checkEpochs(): void {
    for (const issue of this.issues) {
      const mine = this.rotations.filter((rotation) => rotation.owner === issue.owner)
      const opened = mine.find((rotation) => rotation.epoch === issue.epoch)
      const closed = mine.find((rotation) => rotation.epoch === issue.epoch + 1)
      if (opened) assert.ok(opened.asked <= issue.answered, 'law 3: an epoch before anybody opened it')
      if (closed)
        assert.ok(closed.answered >= issue.asked, 'law 3: an epoch after the next one was acknowledged')
    }
  }
}
