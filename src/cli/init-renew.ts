// coffer init --renew: new certificates for existing nodes, signed by the authority of their old
// certificates.
import { X509Certificate } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { systemClock } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { checkReplaceable, replaceFile } from '../files.ts'
import type { TlsFiles } from '../ledger/drivers.ts'
import { CertificateError, type Issued, issueCertificate } from '../node/certificates.ts'
import type { Config } from '../node/config.ts'
import { readPrivateFile } from '../node/private-file.ts'
import { readTlsPair } from '../node/tls-files.ts'
import { nodesOf } from './cluster/nodes.ts'
import { note, print, printJson, table } from './terminal/terminal.ts'

type Renewed = Pick<Config, 'node' | 'file'> & { readonly tls: TlsFiles; readonly issued: Issued }

/**
 * Makes all certificates before replacing any. Throws OperatorError, ConfigError, TlsFileError,
 * PrivateFileError, FileError.
 */
export async function renew(dir: string, json: boolean): Promise<void> {
  const renewed: Renewed[] = []
  for (const config of nodesOf(dir)) {
    const { node, file, ledger } = config
    const { tls } = ledger
    if (!tls) continue
    if (existsSync(tls.key)) readPrivateFile(tls.key) // the new key has the mode of the old key
    renewed.push({ node, file, tls, issued: await issue(config, tls) })
  }
  if (renewed.length === 0)
    throw new OperatorError(`no node of ${resolve(dir)} has certificates`, {
      hint: 'only nodes made by `coffer init --nodes 3` have certificates',
    })
  for (const { tls } of renewed) for (const file of [tls.key, tls.cert]) checkReplaceable(file)
  for (const { file, tls, issued } of renewed) {
    const { uid, gid } = statSync(file)
    const like = { uid, gid, mode: 0o600 }
    replaceFile(tls.key, issued.key, { like })
    replaceFile(tls.cert, issued.cert, { like })
  }
  if (json) printJson({ renewed: renewed.map(({ node }) => node) })
  else printRenewed(renewed)
  note('A node uses its new certificate after a restart. Next: restart the nodes, one after the other.')
}

function printRenewed(renewed: readonly Renewed[]): void {
  const rows = renewed.map(({ node, tls, issued }) => {
    const until = new Date(new X509Certificate(issued.cert).validTo).toISOString()
    return [node, tls.cert, until]
  })
  print(table([['node', 'certificate', 'until'], ...rows]))
}

async function issue({ node, ledger }: Config, { ca }: TlsFiles): Promise<Issued> {
  const authority = readAuthority(ca)
  const { member } = ledger
  // A member may have moved to an address of its own since `init`.
  const urls = member ? [member.client, member.peer] : []
  const hosts = urls.map((url) => new URL(url).hostname.replace(/^\[|\]$/g, ''))
  try {
    return await issueCertificate(authority, { node, hosts }, systemClock)
  } catch (error) {
    if (!(error instanceof CertificateError)) throw error
    throw new OperatorError(`the authority ${ca} cannot sign: ${error.message}`)
  }
}

/**
 * `coffer init` puts the key beside the certificate. Throws OperatorError if a file is missing, TlsFileError,
 * PrivateFileError.
 */
function readAuthority(ca: string): Issued {
  const key = join(dirname(ca), 'ca.key')
  for (const file of [ca, key]) {
    if (!existsSync(file)) {
      throw new OperatorError(
        `${file} is missing: only the authority of the old certificates can renew them`,
        {
          hint: 'put the file back from where it is kept',
        },
      )
    }
  }
  const pair = readTlsPair({ cert: ca, key })
  return { cert: pair.cert.toString(), key: pair.key.toString() }
}
