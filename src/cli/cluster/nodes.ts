// The nodes of a directory: every configuration in it.
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'
import { type Config, ConfigError, readConfig } from '../../node/config.ts'

/**
 * In the order of their names. Throws OperatorError with the faults of all files, or where there is no node.
 */
export function nodesOf(dir: string): Config[] {
  const nodes: Config[] = []
  const faults: string[] = []
  for (const name of namesIn(dir)) {
    const file = join(dir, name)
    if (!isConfiguration(file)) continue
    try {
      nodes.push(readConfig(file))
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      faults.push(error.message)
    }
  }
  if (faults.length > 0) throw new OperatorError(faults.join('\n'))
  if (nodes.length === 0) {
    throw new OperatorError(
      `${resolve(dir)} has no configuration of a node (NODE.yaml); \`coffer init ${dir} --nodes 3\` makes three`,
    )
  }
  for (const [i, { node, file }] of nodes.entries()) {
    const other = nodes.slice(0, i).find((before) => before.node === node)
    if (other)
      throw new OperatorError(`${other.file} and ${file} are both node ${node}: give each its own name`)
  }
  return nodes
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => name.endsWith('.yaml'))
      .sort()
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new OperatorError(`${resolve(dir)} is no directory; \`coffer init DIR --nodes 3\` makes one`)
    throw error
  }
}

/** A file of something else may stand beside them; one with faults is still a node's. */
function isConfiguration(file: string): boolean {
  return /^(node|ledger|keyring|owners)\s*:/m.test(readFileSync(file, 'utf8'))
}
