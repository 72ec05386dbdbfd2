"""One file per revision, named YYYY_MM_DD_HHMM_what."""
