// The shell of `npx` and `npm run` hands no signal on: a command of a demonstration ends with its parent.

const LOOK_MS = 250

/**
 * Calls `ended` once, when npm has started this process and the parent is gone. Returns the way to end the
 * watch.
 */
export function onParentEnd(ended: () => void): () => void {
  if (process.env.npm_command === undefined) return () => undefined
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    ended()
  }, LOOK_MS)
  timer.unref()
  return () => clearInterval(timer)
}
