// Runs callbacks that misbehave, in a process that would be ended by what they throw.
import { type CallbackName, outcomesOf } from '../misbehaving-callbacks.ts'
import { answer } from './child.ts'

answer({ outcomes: (name: CallbackName) => outcomesOf(name) })
