// Where a demo is killed by SIGKILL, a small shell ends its nodes and removes its directory.
import { spawn } from 'node:child_process'

/**
 * "$1" is the directory. Nobody writes to the shell's stdin, a pipe from the demo: `read` returns when the
 * demo has ended. A process id in a file counts where the process names the directory: the system may have
 * given the id of a dead node to another process. A node that has just been started writes its id later.
 */
const SCRIPT = `read -r _
for try in 1 2 3 4 5; do
  for file in "$1"/vault/run/*.pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    case $(ps -o args= -p "$pid") in *"$1"*) kill -KILL "$pid" ;; esac
  done
  sleep 0.4
done
rm -rf "$1"`

/** Waits for the end of this process. Returns the way to end the wait. */
export function watchOver(dir: string): () => void {
  // A process group of its own: Ctrl-C in the terminal is for the demo.
  const shell = spawn('/bin/sh', ['-c', SCRIPT, 'coffer-demo', dir], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  shell.on('error', () => undefined) // a system without a shell: no janitor
  shell.stdin.on('error', () => undefined)
  shell.unref()
  // By its type a Writable, the pipe of a child is a socket.
  if ('unref' in shell.stdin && typeof shell.stdin.unref === 'function') shell.stdin.unref()
  return () => void shell.kill('SIGKILL')
}
