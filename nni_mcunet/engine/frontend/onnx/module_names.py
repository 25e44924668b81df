"""Call the nodes that torch.onnx has exported by the modules they come from: `features.3.conv` says more in a message,
a report and the C than `node_conv2d_17`.

The exporter leaves the way from the module to the node in the node's metadata, as the text of a Python list. Files of
others have none and stay as they are.
"""

import re
from collections import Counter

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # "['', 'features', 'features.3', 'conv2d_17']", the node of torch's graph last
CLASSES = "pkg.torch.onnx.class_hierarchy"  # "['model.Net', 'torch.nn.modules.container.Sequential', ...]"
LAYERS = "torch.nn.modules."  # a class of these is one layer, so that its path is the node's whole name
PARAMETER = ".weight"
LONGEST = 4096  # characters of such a text that are read


def named_by_modules(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, its nodes called by their modules' paths where the file says them. A layer's own node has the
    layer's path; one of a forward() of the user's has the name of its operator behind that of the module."""
    taken: Counter[str] = Counter()
    parameters = {t.name for t in proto.graph.initializer if t.name.endswith(PARAMETER)}
    for node in proto.graph.node:
        name = _name(node, parameters)
        if name:
            taken[name] += 1
            node.name = name if taken[name] == 1 else f"{name}.{taken[name]}"
    return proto


def _name(node: onnx.NodeProto, parameters: set[str]) -> str | None:
    """Return what a node is called, None where the file does not say."""
    texts = {entry.key: entry.value[:LONGEST] for entry in node.metadata_props}
    if SCOPES not in texts:
        return None
    # A convolution and the normalisation that was folded into it are one node: the weight tells whose.
    own = next((name.removesuffix(PARAMETER) for name in node.input if name in parameters), None)
    if own:
        return own
    scopes, classes = (re.findall(r"'([^']*)'", texts.get(key, "")) for key in (SCOPES, CLASSES))
    if len(scopes) < 2:
        return None
    module, last = scopes[-2], scopes[-1]
    is_layer = len(classes) > 1 and classes[-2].startswith(LAYERS)
    return module if is_layer and module else ".".join(filter(None, (module, last)))
