/**
 * The campaign of the pool's models: as many seeds as are asked for, then one table of all that is promised: in how many
 * sequences it was looked at, how often, and how often it did not hold.
 */
import { INVARIANT_IDS, INVARIANTS, type Findings, type Invariant } from '../pool/invariant.ts'
import { playLoad } from '../pool/load-model.ts'
import { playPool, type Play } from '../pool/pool-model.ts'

/** One load is played for as many sequences: it takes as long as several. */
const SEQUENCES_PER_LOAD = 10

/** What makes a sequence one of an invariant that is about what happens, not about what is seen. */
const HAPPENED: Readonly<Partial<Record<Invariant, (play: Play) => boolean>>> = {
  I16: ({ forgets }) => forgets,
  I17: ({ jumps }) => jumps > 0,
  I20: ({ deaths }) => deaths > 0,
  I22: ({ outages }) => outages > 0,
}

export async function poolModelCampaign(
  sequences: number,
  say: (line: string) => void,
): Promise<{ readonly isWell: boolean }> {
  const sums = { jobs: 0, begun: 0, deaths: 0, stalls: 0, faults: 0, jumps: 0, outages: 0 }
  const tally = new Map(INVARIANT_IDS.map((id) => [id, { sequences: 0, looks: 0, violations: 0 }]))
  let violations = 0

  function count(findings: Findings, play: Play | null): void {
    for (const violation of findings.all) say(`FAILED ${violation}`)
    violations += findings.all.length
    for (const [id, row] of tally) {
      const happened = HAPPENED[id]
      if (happened === undefined) {
        row.looks += findings.looks(id)
        row.violations += findings.violations(id).length
        if (findings.looks(id) > 0) row.sequences += 1
      } else if (play !== null && happened(play)) {
        // Whatever else did not hold while it happened counts against it.
        row.looks += INVARIANT_IDS.reduce((sum, other) => sum + findings.looks(other), 0)
        row.violations += findings.all.length
        row.sequences += 1
      }
    }
  }

  for (let seed = 1; seed <= sequences; seed++) {
    const play = await playPool(seed)
    for (const name of ['jobs', 'begun', 'deaths', 'stalls', 'faults', 'jumps', 'outages'] as const)
      sums[name] += play[name]
    count(play.findings, play)
    if (seed % SEQUENCES_PER_LOAD === 1) count(playLoad(seed), null)
  }
  say('       violations/sequences        looks  what holds, and where else it is tested')
  for (const [id, row] of tally) {
    const figure = `${row.violations}/${row.sequences}`
    const { says, alsoIn } = INVARIANTS[id]
    say(`${id.padEnd(5)}  ${figure.padStart(20)}  ${String(row.looks).padStart(11)}  ${says} (${alsoIn.join(', ')})`)
  }
  say(`violations/sequences  ${violations}/${sequences}`)
  const { jobs, begun, deaths, stalls, faults, jumps, outages } = sums
  say(
    `jobs ${jobs}, of which ${begun} began with their creation, deaths of processes ${deaths}, stalls ${stalls}, wrong answers ${faults}, outages ${outages}`,
  )
  say(`jumps of clocks ${jumps}`)
  return { isWell: violations === 0 }
}
