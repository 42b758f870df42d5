"""bin/bench: apid and its peers side by side under wrk. Figures are ratios of one interleaved run on one machine."""
