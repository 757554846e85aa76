"""LeNet-300-100 (266,610 parameters, fully connected) on Fashion-MNIST."""

from bench.zoo.lenet import LeNetFashion

TASK = LeNetFashion("lenet300")
