"""`python -m vagrant.demo`: the main job on real kernels, watched, measured and judged.

`cast` sets the stage, `story` tells the job step by step, `guest` talks to the programs in the
machines, `samples` reads what they logged, `report` judges, `plot` draws, `screen` shows. Every
figure is measured in the machines.
"""
