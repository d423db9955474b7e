/** The migrations in order. A name is what the database remembers: never rename, edit or reorder one that was released. */
import { FirstTables } from './0001-first-tables.ts'
import { DueQuestions } from './0002-due-questions.ts'
import { Machines } from './0003-machines.ts'
import { FairClaims } from './0004-fair-claims.ts'
import { PoolReports } from './0005-pool-reports.ts'
import { SortedMachines } from './0006-sorted-machines.ts'
import { PoolExpectations } from './0007-pool-expectations.ts'
import { Turns } from './0008-turns.ts'

export const MIGRATIONS = [
  { name: '0001-first-tables', class: FirstTables },
  { name: '0002-due-questions', class: DueQuestions },
  { name: '0003-machines', class: Machines },
  { name: '0004-fair-claims', class: FairClaims },
  { name: '0005-pool-reports', class: PoolReports },
  { name: '0006-sorted-machines', class: SortedMachines },
  { name: '0007-pool-expectations', class: PoolExpectations },
  { name: '0008-turns', class: Turns },
]
