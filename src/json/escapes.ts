// Escapes in the strings of JSON (RFC 8259, section 7).

export const BACKSLASH = 0x5c
export const LOWER_U = 0x75

/** The value of a hexadecimal digit by its byte, -1 for all other bytes. */
export const HEX_VALUE = new Int8Array(256).fill(-1)
for (const [value, digit] of [...'0123456789abcdef'].entries()) {
  HEX_VALUE[digit.charCodeAt(0)] = value
  HEX_VALUE[digit.toUpperCase().charCodeAt(0)] = value
}

/** The byte of a one-letter escape by its letter, 0 for all other letters. */
export const SHORT_ESCAPE = new Uint8Array(256)
for (const [index, letter] of [...'"\\/bfnrt'].entries()) {
  SHORT_ESCAPE[letter.charCodeAt(0)] = '"\\/\b\f\n\r\t'.charCodeAt(index)
}

/**
 * Writes the content of a valid JSON string (`raw` from `from` up to `to`) into `out` at `at`. Returns the
 * end of the content, which is never longer than the string. The form is WTF-8: UTF-8 in which a lone
 * surrogate has three bytes, too, so that different surrogates stay different.
 */
export function unescapeTo(raw: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  let end = at
  for (let i = from; i < to; ) {
    if (raw[i] !== BACKSLASH) {
      out[end++] = raw[i++]
    } else if (raw[i + 1] !== LOWER_U) {
      out[end++] = SHORT_ESCAPE[raw[i + 1]]
      i += 2
    } else {
      let code = fourHex(raw, i + 2)
      i += 6
      if (code >= 0xd800 && code < 0xdc00 && i + 6 <= to && raw[i] === BACKSLASH && raw[i + 1] === LOWER_U) {
        const low = fourHex(raw, i + 2)
        if (low >= 0xdc00 && low < 0xe000) {
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
          i += 6
        }
      }
      end = putCode(out, end, code)
    }
  }
  return end
}

function fourHex(raw: Uint8Array, at: number): number {
  const high = (HEX_VALUE[raw[at]] << 12) | (HEX_VALUE[raw[at + 1]] << 8)
  return high | (HEX_VALUE[raw[at + 2]] << 4) | HEX_VALUE[raw[at + 3]]
}

function putCode(out: Uint8Array, at: number, code: number): number {
  let end = at
  if (code < 0x80) out[end++] = code
  else {
    if (code < 0x800) out[end++] = 0xc0 | (code >> 6)
    else {
      if (code < 0x10000) out[end++] = 0xe0 | (code >> 12)
      else {
        out[end++] = 0xf0 | (code >> 18)
        out[end++] = 0x80 | ((code >> 12) & 0x3f)
      }
      out[end++] = 0x80 | ((code >> 6) & 0x3f)
    }
    out[end++] = 0x80 | (code & 0x3f)
  }
  return end
}
