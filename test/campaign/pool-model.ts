/** The campaign of the pool's model: as many seeds as are asked for; gives the lines to print, and whether all held. */
import { playPool, type Play } from '../pool/pool-model.ts'

export async function poolModelCampaign(
  sequences: number,
  say: (line: string) => void,
): Promise<{ readonly isWell: boolean }> {
  const sums = { jobs: 0, deaths: 0, stalls: 0, faults: 0 }
  let violations = 0
  for (let seed = 1; seed <= sequences; seed++) {
    const play: Play = await playPool(seed)
    for (const name of ['jobs', 'deaths', 'stalls', 'faults'] as const) sums[name] += play[name]
    for (const violation of play.violations) say(`FAILED ${violation}`)
    violations += play.violations.length
  }
  say(`violations/sequences  ${violations}/${sequences}`)
  say(`jobs ${sums.jobs}, deaths of processes ${sums.deaths}, stalls ${sums.stalls}, wrong answers ${sums.faults}`)
  return { isWell: violations === 0 }
}
