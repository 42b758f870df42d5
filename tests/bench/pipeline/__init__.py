"""One API, twice: with apid.wsgi, and as the services of 2013 to 2020 wrote it. Measured by bench_pipeline.py and `bin/bench`."""
