// A small WebAssembly assembler: enough to write a numeric kernel in TypeScript, without other tools.
// An instruction is a function from the code of its operands to code, so programs are nested expressions.
// Source: WebAssembly Core Specification 2.0, chapter 5 (binary format).

// @types/node has no WebAssembly; the DOM library would bring all types of a browser.
declare const WebAssembly: {
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object
  Instance: new (module: object) => { readonly exports: unknown }
}

/** A page of a WebAssembly memory. */
export const PAGE_BYTES = 64 * 1024

/** Encoded instructions. An operand is code: its value stays on the stack. */
export type Code = readonly number[]

const TYPES = { i32: 0x7f, v128: 0x7b }

export type Local = { readonly get: Code; set(value: Code): Code }

/** The parameters (all i32) and the locals of a function: `i32` and `v128` add locals. */
export class Frame {
  readonly params: readonly Local[]
  readonly #locals: number[] = []

  constructor(params = 0) {
    this.params = Array.from({ length: params }, (_, index) => local(index))
  }

  i32(): Local {
    return this.#add(TYPES.i32)
  }

  v128(): Local {
    return this.#add(TYPES.v128)
  }

  /** The function as the code section holds it: size, locals (a group for each), body. */
  encode(body: Code): Code {
    return sized([...vector(this.#locals.map((type) => [1, type])), ...body, 0x0b])
  }

  #add(type: number): Local {
    this.#locals.push(type)
    return local(this.params.length + this.#locals.length - 1)
  }
}

const local = (index: number): Local => ({
  get: [0x20, ...unsigned(index)],
  set: (value) => [...value, 0x21, ...unsigned(index)],
})

function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)]
}

function signed(value: number): number[] {
  return value >= -0x40 && value < 0x40 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)]
}

const sized = (bytes: Code): Code => [...unsigned(bytes.length), ...bytes]
const vector = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()]
const name = (text: string): Code => sized([...text].map((char) => char.charCodeAt(0)))

const binary =
  (...op: number[]) =>
  (left: Code, right: Code): Code => [...left, ...right, ...op]
const unary =
  (...op: number[]) =>
  (value: Code): Code => [...value, ...op]

export const i32 = {
  of: (value: number): Code => [0x41, ...signed(value)],
  load: (address: Code, offset: number): Code => [...address, 0x28, 2, ...unsigned(offset)],
  lessThan: binary(0x49),
  add: binary(0x6a),
  shl: binary(0x74),
}

/** Loads and stores need no alignment: the address is an i32 operand plus a constant offset. */
export const v128 = {
  /** Sixteen bytes: the given bytes, repeated. */
  of: (...bytes: number[]): Code => {
    return [0xfd, 0x0c, ...Array.from({ length: 16 }, (_, i) => bytes[i % bytes.length])]
  },
  load: (address: Code, offset: number): Code => [...address, 0xfd, 0x00, 0, ...unsigned(offset)],
  load32Splat: (address: Code, offset: number): Code => [...address, 0xfd, 0x09, 0, ...unsigned(offset)],
  store: (address: Code, offset: number, value: Code): Code => {
    return [...address, ...value, 0xfd, 0x0b, 0, ...unsigned(offset)]
  },
  and: binary(0xfd, 0x4e),
  or: binary(0xfd, 0x50),
  xor: binary(0xfd, 0x51),
  /** Bits of `one` where the mask is 1, of `zero` where the mask is 0. */
  select: (one: Code, zero: Code, mask: Code): Code => [...one, ...zero, ...mask, 0xfd, 0x52],
}

export const i8x16 = {
  /** Picks bytes: 0..15 are of the left operand, 16..31 of the right operand. */
  shuffle: (left: Code, right: Code, bytes: Code): Code => [...left, ...right, 0xfd, 0x0d, ...bytes],
  splat: unary(0xfd, 0x0f),
  equal: binary(0xfd, 0x23),
  lessThan: binary(0xfd, 0x25),
}

export const i32x4 = {
  splat: unary(0xfd, 0x11),
  extract: (value: Code, lane: number): Code => [...value, 0xfd, 0x1b, lane],
  replace: (vector: Code, lane: number, value: Code): Code => [...vector, ...value, 0xfd, 0x1c, lane],
  equal: binary(0xfd, 0x37),
  greaterThan: binary(0xfd, 0x3b),
  shl: (value: Code, bits: number): Code => [...value, ...i32.of(bits), 0xfd, 0xab, 0x01],
  shr: (value: Code, bits: number): Code => [...value, ...i32.of(bits), 0xfd, 0xad, 0x01],
  add: binary(0xfd, 0xae, 0x01),
  subtract: binary(0xfd, 0xb1, 0x01),
  min: binary(0xfd, 0xb6, 0x01),
  max: binary(0xfd, 0xb8, 0x01),
}

export const call = (index: number): Code => [0x10, ...unsigned(index)]

/** Runs the body, then repeats the body while the condition holds. */
export const loop = (body: Code, condition: Code): Code => [0x03, 0x40, ...body, ...condition, 0x0d, 0, 0x0b]

/** A function without result. Its index in the list of `instantiate` is its index for `call`. */
type Procedure = { readonly name: string; readonly frame: Frame; readonly body: Code }

/**
 * Assembles, compiles and instantiates a module with a memory of a fixed number of 64 KiB pages. Exports the
 * functions by name; `memory.buffer` is never replaced, so views of the memory stay valid.
 */
export function instantiate(pages: number, procedures: readonly Procedure[]): unknown {
  const section = (id: number, items: readonly Code[]): Code => [id, ...sized(vector(items))]
  const functionTypes = procedures.map(({ frame }) => [
    0x60,
    ...vector(frame.params.map(() => [TYPES.i32])),
    0,
  ])
  const functions = procedures.map((_, index) => unsigned(index))
  const exported = procedures.map((procedure, index) => [...name(procedure.name), 0, ...unsigned(index)])
  const bodies = procedures.map(({ frame, body }) => frame.encode(body))
  const bytes = new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, functionTypes),
    ...section(3, functions),
    ...section(5, [[1, ...unsigned(pages), ...unsigned(pages)]]),
    ...section(7, [[...name('memory'), 2, 0], ...exported]),
    ...section(10, bodies),
  ])
  return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports
}
