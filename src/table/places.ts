// Growing arrays of places: reused from piece to piece, and copied out at the end of a piece.
import type { Places } from './piece.ts'

const FIRST = 4096

export class PlaceList {
  start = new Uint32Array(FIRST)
  end = new Uint32Array(FIRST)
  column = new Uint16Array(FIRST)
  recordEnd = new Uint32Array(FIRST)
  count = 0

  add(start: number, end: number, column: number): void {
    if (this.count === this.start.length) this.#grow()
    this.start[this.count] = start
    this.end[this.count] = end
    this.column[this.count++] = column
  }

  copy(withRecordEnd: boolean): Places {
    const { count } = this
    return {
      count,
      start: this.start.slice(0, count),
      end: this.end.slice(0, count),
      column: this.column.slice(0, count),
      ...(withRecordEnd ? { recordEnd: this.recordEnd.slice(0, count) } : {}),
    }
  }

  #grow(): void {
    const { start, end, column, recordEnd } = this
    const size = start.length * 2
    this.start = new Uint32Array(size)
    this.end = new Uint32Array(size)
    this.column = new Uint16Array(size)
    this.recordEnd = new Uint32Array(size)
    this.start.set(start)
    this.end.set(end)
    this.column.set(column)
    this.recordEnd.set(recordEnd)
  }
}
