"""Rate limits: what a limit is (limit), where hits are counted (sharedtable on one machine, remote over several), GET /limits."""
