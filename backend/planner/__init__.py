"""Says before loading where a model goes and whether it fits: pure arithmetic on its config.

`shapes` counts parameters, `costs` turns them into bytes, `plan` places modules on devices,
`advice` finds ways out when they do not fit. Nothing here imports torch, opens weights or asks
a device; only `machine` looks at the computer, and only when it is called.
"""
