/** How a finished thing ended. */
import { OUTCOMES } from '../../schema/event.ts'
import { builder } from './builder.ts'

export const OutcomeRef = builder.enumType('Outcome', { values: OUTCOMES })
