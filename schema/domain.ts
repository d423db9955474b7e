/** The domains that a skill may reach: host names, or all names below one. */

/** A host name of at least two labels, or `*.` before one. */
export const DOMAIN = /^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$/
const LENGTH_MAX = 253
/** Endings that mean something only within a network, a machine or a protocol: nothing public lives there. */
const INWARD = new Set(['internal', 'local', 'localhost', 'flycast', 'arpa', 'lan', 'home', 'corp', 'onion', 'invalid'])

/** What is wrong with a domain, in words that follow the field's name; undefined when nothing is. */
export function domainFault(text: string): string | undefined {
  const labels = text.replace(/^\*\./, '').split('.')
  // A reader of the file must see where a skill goes, and look-alike letters hide it in both spellings.
  if (/[^\u0000-\u007f]/.test(text) || labels.some((label) => /^xn--/i.test(label)))
    return 'must be in plain ASCII and not in Punycode ("xn--…"), since look-alike letters hide which domain is meant'
  if (text === '*' || /^\*\.[^.]*$/.test(text))
    return 'must name a domain after "*.", such as "*.example.com": a whole top level is no limit'
  if (text.indexOf('*', 1) !== -1 || (text.startsWith('*') && !text.startsWith('*.')))
    return 'may hold "*" only as its whole first label, such as "*.example.com"'
  if (text.length > LENGTH_MAX) return `must be at most ${LENGTH_MAX} characters long`
  if (!DOMAIN.test(text))
    return 'must be a host name in lower case such as "api.example.com" or "*.example.com", without scheme, port or path'
  if (INWARD.has(labels.at(-1) ?? '')) return `must be a public name; ".${labels.at(-1)}" leads into a private network`
  return undefined
}

/** Whether a host is what a domain of a file names: itself, or, after `*.`, any name below it. */
export function isWithin(domain: string, host: string): boolean {
  return domain.startsWith('*.') ? host.endsWith(domain.slice(1)) : host === domain
}
