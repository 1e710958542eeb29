"""What a scheduler does, pass by pass: requests arrive, wait, are given memory, run, are preempted, and end.

Yu et al. 2022, ORCA, OSDI: the batch is formed anew before each pass. Kwon et al. 2023, doi:10.1145/3600006.3613165:
memory is handed out page by page. Plain functions on numbers and arrays, compiled with the equations of the solver
that they ask how long a pass takes: there is no other physics.
"""
