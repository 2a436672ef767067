-- One prediction, with its texts if they are stored.
-- param id: text = ''; id of the job
-- param sequence: number = ''; sequence of the job in `JOBS`, for an id that was used again; empty for the latest job
-- param tenant: text = ''; tenant that it must belong to; empty for any
SELECT
    -- A prediction that did not come from the queue has no sequence.
    if(job_sequence = 0, job_id, concat(job_id, '.', toString(job_sequence))) AS id,
    * EXCEPT (version, text_embedding, summary_embedding)
FROM prediction_versions
WHERE job_id = {id:String}
    AND ({sequence:String} = '' OR job_sequence IN (0, toUInt64OrZero({sequence:String})))
    AND ({tenant:String} = '' OR tenant = {tenant:String})
ORDER BY finished_at DESC, version DESC
LIMIT 1
