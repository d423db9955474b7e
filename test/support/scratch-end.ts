/** Of every test file: what its tests made goes when they are over, also when they failed. */
import { afterAll } from 'vitest'
import { removeScratch } from './scratch.ts'

afterAll(removeScratch)
