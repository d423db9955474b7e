/** The jobs that want a machine, as the rows of a WITH: who runs, who waits, and in which place each would be (G1, G2). */

/**
 * Beginning of a statement, which then has `running` (whether its lease has `ended`), `shares` (how many an application has
 * `held`) and `ranked` (by the `place` that each would have). The parameters' numbers: epoch ms now, how many of each
 * application, and its quota. An application's queue is found by a step in the index, not by a scan.
 */
export const waitingJobs = (now: number, few: number, quota: number): string => `
  with recursive applications as (
    (select application_id from jobs where status = 'queued' order by application_id limit 1)
    union all
    select (
      select jobs.application_id from jobs
      where jobs.status = 'queued' and jobs.application_id > applications.application_id
      order by jobs.application_id limit 1
    ) from applications where applications.application_id is not null
  ), running as materialized (
    select id, application_id, lease_until is null or lease_until <= $${now}::bigint as ended
    from jobs where status = 'running'
  ), shares as (
    select application_id, count(*) filter (where not ended) as held from running group by application_id
  ), waiting as (
    select queue.id, applications.application_id from applications cross join lateral (
      select id from jobs where status = 'queued' and jobs.application_id = applications.application_id
      order by id limit least($${few}::int, $${quota}::int)
    ) as queue
    union all
    select id, application_id from running where ended
  ), ranked as (
    select id, coalesce(held, 0) + row_number() over (partition by application_id order by id) - 1 as place
    from waiting left join shares using (application_id)
  )`
