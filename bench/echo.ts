/** The other end of the floor's hops: says what it hears. */
process.stdin.pipe(process.stdout)
