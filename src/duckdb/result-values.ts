// Values of results as DuckDB prints the values. The package prints infinite dates as days far away, a FLOAT
// with the digits of a DOUBLE, and loses fields of a STRUCT without names.
import type { DuckDBType, DuckDBValue } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import type { DuckDB } from './package.ts'

type Mend = (value: DuckDBValue) => DuckDBValue

/**
 * Replaces the values of a type that the package prints otherwise than DuckDB; undefined: none. Throws
 * OperatorError for a STRUCT with fields that the package loses.
 */
export function mendingOf(duckdb: DuckDB, type: DuckDBType): Mend | undefined {
  const { DuckDBTypeId: Id } = duckdb
  switch (type.typeId) {
    case Id.FLOAT:
      return (value) => (typeof value === 'number' ? shortestFloat(value) : value)
    case Id.DATE:
    case Id.TIMESTAMP_S:
    case Id.TIMESTAMP_MS:
    case Id.TIMESTAMP_NS:
      return (value) => infinityOf(duckdb, value) ?? value
    default:
      return mendingInside(duckdb, type)
  }
}

/** Of types with values inside. */
function mendingInside(duckdb: DuckDB, type: DuckDBType): Mend | undefined {
  const { DuckDBListValue, DuckDBArrayValue, DuckDBUnionValue, DuckDBVariantValue, DuckDBMapValue } = duckdb
  const { DuckDBTypeId: Id } = duckdb
  switch (type.typeId) {
    case Id.LIST:
    case Id.ARRAY: {
      const mend = mendingOf(duckdb, type.valueType)
      return (
        mend &&
        ((value) => {
          if (value instanceof DuckDBListValue) return new DuckDBListValue(value.items.map(mend))
          return value instanceof DuckDBArrayValue ? new DuckDBArrayValue(value.items.map(mend)) : value
        })
      )
    }
    case Id.MAP: {
      const [ofKey, ofValue] = [type.keyType, type.valueType].map((each) => mendingOf(duckdb, each) ?? same)
      if (ofKey === same && ofValue === same) return undefined
      return (map) =>
        map instanceof DuckDBMapValue
          ? new DuckDBMapValue(
              map.entries.map(({ key, value }) => ({ key: ofKey(key), value: ofValue(value) })),
            )
          : map
    }
    case Id.STRUCT:
      return mendingOfStruct(duckdb, type.entryNames, type.entryTypes)
    case Id.UNION: {
      const mends = new Map(type.memberTags.map((tag, i) => [tag, mendingOf(duckdb, type.memberTypes[i])]))
      return (union) => {
        if (!(union instanceof DuckDBUnionValue)) return union
        const { tag, value } = union
        return new DuckDBUnionValue(tag, (mends.get(tag) ?? same)(value))
      }
    }
    case Id.VARIANT:
      return (variant) => {
        if (!(variant instanceof DuckDBVariantValue) || variant.type === undefined) return variant
        const mend = mendingOf(duckdb, variant.type) ?? same
        return new DuckDBVariantValue(mend(variant.value), variant.type)
      }
    default:
      return undefined
  }
}

function mendingOfStruct(
  duckdb: DuckDB,
  names: readonly string[],
  types: readonly DuckDBType[],
): Mend | undefined {
  // The package has the fields as members of an object.
  if (new Set(['', '__proto__', ...names]).size < names.length + 2)
    throw new OperatorError('a STRUCT has fields without names of their own, and cannot be printed', {
      hint: "name the fields, as in {'a': 1, 'b': 2}, or CAST the STRUCT to VARCHAR",
    })
  const mends = new Map(names.map((name, i) => [name, mendingOf(duckdb, types[i])]))
  if ([...mends.values()].every((mend) => mend === undefined)) return undefined
  return (struct) => {
    if (!(struct instanceof duckdb.DuckDBStructValue)) return struct
    const entries = Object.entries(struct.entries)
    return new duckdb.DuckDBStructValue(
      Object.fromEntries(entries.map(([name, value]) => [name, (mends.get(name) ?? same)(value)])),
    )
  }
}

const same: Mend = (value) => value

/** An infinite date as an infinite TIMESTAMP, whose text is right; undefined: none. */
function infinityOf(duckdb: DuckDB, value: DuckDBValue): DuckDBValue | undefined {
  const { DuckDBTimestampValue, DuckDBDateValue, DuckDBTimestampSecondsValue } = duckdb
  const { DuckDBTimestampMillisecondsValue, DuckDBTimestampNanosecondsValue } = duckdb
  let count: number | bigint
  if (value instanceof DuckDBDateValue) count = value.days
  else if (value instanceof DuckDBTimestampSecondsValue) count = value.seconds
  else if (value instanceof DuckDBTimestampMillisecondsValue) count = value.millis
  else if (value instanceof DuckDBTimestampNanosecondsValue) count = value.nanos
  else return undefined
  if (value.isFinite) return undefined
  return count > 0 ? DuckDBTimestampValue.PosInf : DuckDBTimestampValue.NegInf
}

/** The shortest number with the same 32 bits: 0.1, not 0.10000000149011612. */
function shortestFloat(value: number): number {
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}
