"""LeNet-5 in its Caffe form (431,080 parameters: 20 and 50 filters of 5x5, 500 and 10 units) on Fashion-MNIST."""

from bench.zoo.lenet import LeNetFashion

TASK = LeNetFashion("lenet5")
