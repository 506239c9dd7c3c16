"""``python -m onnx_net2net``: the command line."""

from onnx_net2net.cli import main

if __name__ == "__main__":
    main()
