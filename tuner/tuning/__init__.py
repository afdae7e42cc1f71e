"""The search, once: for a model, a bundle, a simulation or an experiment. Begin reading at `tune`.

`tune` -> `searcher` makes sessions -> `phase` gives turns to tasks -> `session` asks, measures, tells and records ->
`trials` builds and checks one candidate.
"""
