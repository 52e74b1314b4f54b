"""References are float32, so models are loaded here for a device whose products round only their result."""

from mlxrun.loading import LoadOptions
from mlxrun.ops.device import this_device

EXACT = LoadOptions(device=this_device("exact"))
