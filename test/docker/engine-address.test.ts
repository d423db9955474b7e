import { describe, expect, it } from 'vitest'
import { isLoopback, parseEngineAddress, usualSockets } from '../../src/docker/engine-address.ts'

describe('the address of an engine', () => {
  it.each([
    ['unix:///var/run/docker.sock', { type: 'socket', path: '/var/run/docker.sock' }],
    ['npipe:////./pipe/docker_engine', { type: 'socket', path: '//./pipe/docker_engine' }],
    ['tcp://127.0.0.1:2375', { type: 'tcp', hostname: '127.0.0.1', port: 2375 }],
    ['tcp://engine.example.com', { type: 'tcp', hostname: 'engine.example.com', port: 2376 }],
    ['tcp://[::1]:2375', { type: 'tcp', hostname: '[::1]', port: 2375 }],
  ])('%s is one', (text, address) => {
    expect(parseEngineAddress(text)).toEqual(address)
  })

  it.each([
    '',
    'docker',
    'unix://relative',
    'ssh://me@host',
    'tcp://',
    'tcp://me@host:1',
    'tcp://host/path',
    'http://a',
  ])('"%s" is none', (text) => {
    expect(parseEngineAddress(text)).toMatch(/^DOCKER_HOST is/)
  })

  it('is of this computer only by the names of its loopback', () => {
    expect(['localhost', '127.0.0.1', '[::1]'].every(isLoopback)).toBe(true)
    expect(['', '0.0.0.0', '127.0.0.1.example.com', '10.0.0.1'].some(isLoopback)).toBe(false)
  })

  it('is looked for where engines put it, and nowhere below a directory that is not known', () => {
    expect(usualSockets('darwin', '/Users/a', undefined)).toContain('/Users/a/.docker/run/docker.sock')
    expect(usualSockets('linux', undefined, '/run/user/1000')).toEqual([
      '/var/run/docker.sock',
      '/run/user/1000/docker.sock',
    ])
    expect(usualSockets('win32', 'C:/Users/a', undefined)).toEqual(['//./pipe/docker_engine'])
  })
})
