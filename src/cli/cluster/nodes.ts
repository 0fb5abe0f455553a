// The nodes of a directory: all its configurations.
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'
import { type Config, ConfigError, readConfig } from '../../node/config.ts'
import { explain } from '../terminal/failure.ts'

/** In the order of file names. Throws OperatorError with the faults of all files, or if there is no node. */
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
      faults.push(explain(error).text)
    }
  }
  if (faults.length > 0) throw new OperatorError(faults.join('\n'))
  if (nodes.length === 0) {
    throw new OperatorError(`${resolve(dir)} has no configuration of a node (NODE.yaml)`, {
      hint: `\`coffer init ${dir} --nodes 3\` writes three`,
    })
  }
  for (const [i, { node, file }] of nodes.entries()) {
    const other = nodes.slice(0, i).find((before) => before.node === node)
    if (other)
      throw new OperatorError(`${other.file} and ${file} are both node ${node}`, {
        hint: 'give each node its own name',
      })
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
      throw new OperatorError(`${resolve(dir)} is not a directory`, {
        hint: '`coffer init DIR --nodes 3` makes one',
      })
    throw error
  }
}

/** Whether the file is a node's, with or without faults: other YAML files may be in the directory. */
function isConfiguration(file: string): boolean {
  return /^(node|ledger|keyring|owners)\s*:/m.test(readFileSync(file, 'utf8'))
}
