import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_PATH, routedTarget } from './target.ts'

test('a target becomes a path, with the name of a secret as one segment', () => {
  for (const [target, path] of [
    ['/health', '/health'],
    ['//x/metrics', '//x/metrics'],
    ['http://host/health', '/health'],
    ['HTTPS://user@host:8200/ready?for=reads', '/ready?for=reads'],
    ['http://host', '/'],
    ['http://host?x=1', '/?x=1'],
    ['http://host#x', '/#x'],
    ['http:///health', '/health'],
    ['ftp://host/health', NO_PATH],
    ['*', NO_PATH],
    ['host:443', NO_PATH],
    ['/secrets', '/secrets'],
    ['/secrets?prefix=a/b', '/secrets?prefix=a/b'],
    ['/secrets/', '/secrets/%2F'],
    ['/secrets//', '/secrets/%2F'],
    ['/secrets/a', '/secrets/a'],
    ['/secrets/a/b?at=x/y', '/secrets/a%2Fb?at=x/y'],
    ['/secrets/a%2fb/c', '/secrets/a%2fb%2Fc'],
    ['/secrets/a/b/history', '/secrets/a%2Fb/history'],
    ['/secrets/a%2Fhistory', '/secrets/a%2Fhistory'],
    ['/secrets/history', '/secrets/history'],
    ['/secrets//history', '/secrets/%2F/history'],
    ['/secrets/history/history', '/secrets/history/history'],
    ['/secrets/a/history/history#x', '/secrets/a%2Fhistory/history#x'],
    ['http://host/secrets/a/b', '/secrets/a%2Fb'],
    ['/secrets/./a', '/secrets/.%2Fa'],
    ['/%74oken%69ze', '/tokenize'],
    ['http://host/%68ealth', '/health'],
    ['/%73ecrets/a/b', '/secrets/a%2Fb'],
    ['/secrets/a%2Fb%2D%2e%5F%7E/%68istory', '/secrets/a%2Fb-._~/history'],
    ['/secrets/%2561%25', '/secrets/%2561%25'],
    ['/secrets/%20%2f%3F%23%c3%a9', '/secrets/%20%2f%3F%23%c3%a9'],
    ['/%74?%74=%74#%74', '/t?%74=%74#%74'],
    // Malformed: stays so.
    ['/%74%2%35', '/%74%2%35'],
    ['/%74%', '/%74%'],
    ['/%74%zz', '/%74%zz'],
  ])
    assert.equal(routedTarget(target), path, target)
})
